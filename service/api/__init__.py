"""HTTP: schemas, routes, authentication and the one table that turns errors into statuses."""
