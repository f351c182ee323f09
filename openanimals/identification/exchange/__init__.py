"""A catalogue in the forms of others: Wildbook, Camtrap DP, COCO."""
