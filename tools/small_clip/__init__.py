"""A CLIP of 1.4 million parameters, pre-trained on drawn images, in OpenAI's own layout."""
