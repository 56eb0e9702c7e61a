"""Front processes: several that speak HTTP before the one that owns the device (`--workers N`).

    caller -- HTTP --> front --+-- a frame: body and ids of its texts --> calls -> predict -> engine
                               |<- a frame: status, headers, body ------'
                               '-- any other request, as it came ------> the application, on a Unix socket

A front decides nothing: it reads a predict call off the wire, turns its texts into ids and sends both; the
device process parses the same body, and takes the ids of a text where it has that text. So a front knows no
tasks, no versions and no limits of them, and nothing that it knows can grow old. Whatever is not a plain
predict call is answered by the application of the device process, through the front.

In a front: `__main__` (the process), `front` (which way a request goes), `texts` (ids), `link` (frames out
and in), `passing` (requests as they came). In the device process: `processes` (starts and restarts fronts),
`calls` (frames in and out). Both: `frames` (their form), `setup` (what a front is told).
"""
