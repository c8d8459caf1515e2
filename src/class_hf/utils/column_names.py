"""Names of columns that several rooms write and read."""

# Probability that the caption of a pair belongs to another molecule. Finding the suspects adds the column.
WRONG_PROBABILITY = "wrong_probability"
