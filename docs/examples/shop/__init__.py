"""What the three example shops share: the catalogue, the cart, what is told to Algolia, and the pages.

Nothing here knows a web framework, and nothing here says who the visitor is: that is what the shops show.
"""
