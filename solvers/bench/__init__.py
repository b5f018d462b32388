"""Every method on every problem, the way a sceptical reader would compare them: what ``deepcd bench`` runs."""
