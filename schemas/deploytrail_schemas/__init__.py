"""What a deployment event is: Avro schemas, codec, topics, regions and settings.

Imports no other room. Nothing heavy is imported before it is used.
"""
