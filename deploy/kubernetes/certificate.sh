#!/bin/sh
# A certificate for the admission webhook, for clusters without cert-manager: signed by itself, for 90 days.
#
#   ./certificate.sh FOLDER          writes tls.crt and tls.key there, and prints the commands that install them
#
# Run it again before it expires: the server takes the new files without a restart.
set -eu
folder=${1:?usage: certificate.sh FOLDER}
name=admission.deploytrail.svc
umask 077
mkdir -p "$folder"
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 90 -subj "/CN=$name" \
  -addext "subjectAltName=DNS:$name,DNS:$name.cluster.local" -addext "extendedKeyUsage=serverAuth" \
  -keyout "$folder/tls.key" -out "$folder/tls.crt" 2>/dev/null
bundle=$(base64 <"$folder/tls.crt" | tr -d '\n')
cat <<END
kubectl -n deploytrail create secret tls admission-tls --cert=$folder/tls.crt --key=$folder/tls.key \\
  --dry-run=client -o yaml | kubectl apply -f -
kubectl patch validatingwebhookconfiguration deploytrail-permits --type=json -p='[
  {"op": "add", "path": "/webhooks/0/clientConfig/caBundle", "value": "$bundle"},
  {"op": "add", "path": "/webhooks/1/clientConfig/caBundle", "value": "$bundle"}]'
END
