"""Maps against masks: does an arm show the finding better, and better than chance?"""
