package dynamo

import (
	"errors"
	"fmt"

	"github.com/aws/smithy-go"

	"timberline/events"
)

// Codes of refusals that no retry will mend, and what to do. Everything else (throttled,
// failed, no answer) settles nothing.
var advice = map[string]string{
	"ResourceNotFoundException":   "a table is missing: run `timberline migrate up --store dynamodb`, or correct prefix and region",
	"AccessDeniedException":       "give these credentials the rights that docs/operations.md lists for the role",
	"UnrecognizedClientException": "DynamoDB does not know these credentials: correct them",
	"InvalidSignatureException":   "correct the secret key of these credentials, or this machine's clock",
	"ValidationException":         "DynamoDB does not take such a request, now or later",
	"SerializationException":      "DynamoDB does not take such a request, now or later",
}

// code returns the code of an error that the service itself has returned, else "".
func code(err error) string {
	var answer smithy.APIError
	if errors.As(err, &answer) {
		return answer.ErrorCode()
	}
	return ""
}

// noTable reports whether a call has found that its table does not exist.
func noTable(err error) bool { return code(err) == "ResourceNotFoundException" }

// explain marks what is final, and says what to do about it.
func (s *Store) explain(err error) error {
	if what, final := advice[code(err)]; final {
		return fmt.Errorf("%w: tables %s-…: %s: %w", events.ErrFatal, s.o.Prefix, what, err)
	}
	return err
}
