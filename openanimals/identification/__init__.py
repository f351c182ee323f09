"""Who is it: photographs in, encounters, evidence and individuals, capture histories out."""
