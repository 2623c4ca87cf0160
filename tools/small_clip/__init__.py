"""A CLIP of 1.4 million parameters, pre-trained on drawn pictures, in OpenAI's own layout."""
