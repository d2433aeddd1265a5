"""Polling: asks the APIs of sources for what their webhooks may have missed.

What an API answers is put into the shape of the source's webhook and read by the same adapter, so a
webhook and a poll of one thing give one record: whichever comes second is dropped by its id.
"""
