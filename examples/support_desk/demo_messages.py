"""What the demo asks the server: mails of this morning that stand in no data file."""

SINGLE = "Hello, I moved to a new phone and the six digits at sign-in are never right. What can I do?"

PAIRS: list[tuple[str, str]] = [
    (
        "The scanner won't charge in its cradle",
        "I put the S2 on the dock overnight and the battery is still empty",
    ),
    ("The scanner won't charge in its cradle", "The scanner won't read barcodes on shiny wrapping"),
    (
        "Can we get the invoice in English?",
        "Please switch our bills to English, nobody here reads the other language",
    ),
    ("Can we get the invoice in English?", "The roll of labels is stuck inside the printer"),
]

MAILS = [
    "Thank you so much, the replacement came this morning and it works.",
    "The printer at the packing table has stopped and sixty parcels are due at four o'clock.",
    "Could you tell me some time how I change the picture of my profile?",
    "There is smoke from the cradle of the scanner and it smells of plastic!",
    "Since last night's import three hundred articles have the wrong price in our web shop.",
    "We have closed our second shop, please end its plan at the end of the month.",
]
