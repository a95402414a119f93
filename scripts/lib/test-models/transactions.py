"""Writes 1,000 transactions with the columns that the model of train.py needs, the same each time: `transactions.py >FILE`."""

import random

random.seed(18)
print("id,description,amount,timestamp,merchant,operation_type,side,card_age")
for row in range(1, 1_001):
    amount = f"{random.lognormvariate(4, 1.5):.2f}"
    timestamp = f"2026-01-{random.randint(1, 31):02}T{random.randint(0, 23):02}:{random.randint(0, 59):02}:00Z"
    side = random.choice(["debit", "credit"])
    print(f"{row},Payment {row},{amount},{timestamp},Shop {row % 7},card_payment,{side},{random.uniform(0, 3_000):.1f}")
