"""tintype: your own fal for personalization.

Trains LoRAs of a person, a style or a product on hardware you own and draws with them, behind fal's HTTP API.
"""

__version__ = "0.1.0"
