from clip.clip import available_models as available_models
from clip.clip import tokenize as tokenize
