"""`cosygate evaluate`: how good models are on recordings whose words, speakers or times are known.

    references → running → scoring → summing → table, page
                           ├ normal (words), aligning (errors, intervals)
                           └ speakers (diarisation error rate)

It speaks to a gateway through cosygate.client alone, so it measures what a user gets. docs/evaluate.md says what each
figure means.
"""
