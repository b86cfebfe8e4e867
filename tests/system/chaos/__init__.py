"""Random faults under load, and what must be true when they are over: `make chaos`.

`plan` draws the steps from a seed, `deeds` carries them out on `world`, `crowd` asks meanwhile, `checker` compares what was told.
"""
