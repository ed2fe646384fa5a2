"""Which models bninv covers: every family of timm and torchvision, measured one by one."""
