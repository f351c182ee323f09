"""How the synthetic herd is drawn: coats, bodies that wear them, camera traps that see them.

The unit of length is about the animal's trunk; x runs towards its head, y towards the ground. A
coat is a map over the animal standing at rest. A pose turns its bones about their joints; each
pixel of a photograph is carried back to the animal at rest and looks its coat up there. So a
pattern bends with the body and stays the same pattern.
"""
