"""How a program written for fal is turned here without a changed line: `tintype run` and `tintype env`.

`gate` is the proxy that a program's environment (`variables`, `hooks`) sends it to, `authority` makes the certificates
by which it may answer in fal's place, `relay` hands what was meant for fal to the local server. `signpost` tells where
all of this is while `tintype serve` runs. Which names are fal's, and what each stands for, is known to `fal`.
"""
