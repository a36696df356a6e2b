curl --request POST \
  --url https://fal.run/fal-ai/ideogram/custom-models/generate \
  --header "Authorization: Key $FAL_KEY" \
  --header "Content-Type: application/json" \
  --data '{
     "model_id": "",
     "prompt": "A photo in my custom style"
   }'
