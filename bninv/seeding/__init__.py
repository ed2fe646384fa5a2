"""Runs that repeat: every generator seeded, and a DataLoader's batches the same in every run."""

from bninv.seeding.dataloader import dataloader_seeding as dataloader_seeding
from bninv.seeding.generators import SeedingWarning as SeedingWarning
from bninv.seeding.generators import seed_everything as seed_everything
