"""`untuned report`: the page of a comparison, drawn again from its folder."""
