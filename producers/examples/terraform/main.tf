# What Terraform changes is reported by apply.sh; what it rolls out by a script, here.
terraform {
  required_version = ">= 1.4"
}

variable "app_version" {
  type    = string
  default = "4.2.0"
}

# Runs whenever app_version changes. The script's own exit status decides whether the apply fails.
resource "terraform_data" "rollout" {
  triggers_replace = [var.app_version]

  provisioner "local-exec" {
    command = "deploytrail run --service checkout --environment production --version ${var.app_version} -- ./roll_out.sh"
  }
}
