"""The slow, independent recomputation that the audit compares with. Pure.

Shares nothing with core's fold or with the compiled matching but the parsed definition: it reads
the bytes of the log itself, with the standard library, one record at a time.
"""
