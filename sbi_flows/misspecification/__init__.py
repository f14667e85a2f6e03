"""Does an observation look like the simulations?"""
