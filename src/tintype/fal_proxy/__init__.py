"""How a program written for fal reaches this server without a changed line: `tintype run` and `tintype env`.

`proxy` is what a program's environment (`environment`, `hooks`) sends it to, `certificates` makes those by which it may
answer in fal's place, `relay` hands what was meant for fal to the local server. `tintype.installation` tells where all
of this is while `tintype serve` runs, `tintype.fal` which names are fal's.
"""
