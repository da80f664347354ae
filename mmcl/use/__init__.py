"""A finished run at work: it embeds, predicts and searches recordings that it has never seen."""
