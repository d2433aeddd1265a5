"""What tests share: real parts started and stopped, and small readers of what they leave."""
