"""The bench ``chaos``: a campaign whose processes are killed and whose oracle fails, and what is left of it.

`oracle` fails where a `plan` says so and writes a `journal`; `campaign` is what is run, on the Ray nodes of
`cluster`, by `driving`; `striking` kills its processes; `account` compares journal and `ledger`; `leavings` looks what
has stayed behind.
"""
