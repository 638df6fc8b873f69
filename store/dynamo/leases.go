package dynamo

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"timberline/events"
	"timberline/projections/lease"
)

// The attributes of a lease besides its key.
const (
	ownerAttribute   = "owner"
	counterAttribute = "counter"
	placeAttribute   = "place"
)

func leaseKey(l lease.Lease) item {
	return leasesTable.textKey(l.Kind, l.Name)
}

func leaseItem(l lease.Lease) item {
	i := leaseKey(l)
	i[ownerAttribute] = &types.AttributeValueMemberS{Value: l.Owner}
	i[counterAttribute] = &types.AttributeValueMemberN{Value: strconv.FormatUint(l.Counter, 10)}
	i[placeAttribute] = &types.AttributeValueMemberS{Value: l.Place}
	return i
}

func decodeLease(i item) (lease.Lease, error) {
	text := func(name string) string {
		v, _ := i[name].(*types.AttributeValueMemberS)
		if v == nil {
			return ""
		}
		return v.Value
	}
	l := lease.Lease{Kind: text(leasesTable.partition.name), Name: text(leasesTable.sort.name), Owner: text(ownerAttribute), Place: text(placeAttribute)}
	counter, ok := i[counterAttribute].(*types.AttributeValueMemberN)
	if ok {
		var err error
		l.Counter, err = strconv.ParseUint(counter.Value, 10, 64)
		ok = err == nil
	}
	if !ok {
		return l, fmt.Errorf("%w: lease %q of kind %q has no number %s: delete it, it will be made again", events.ErrCorrupt, l.Name, l.Kind, counterAttribute)
	}
	return l, nil
}

// ListLeases implements lease.Leases.
func (s *Store) ListLeases(ctx context.Context, kind string) (all []lease.Lease, err error) {
	ctx, cancel := context.WithTimeout(ctx, s.o.Deadline)
	defer cancel()
	in := &dynamodb.QueryInput{
		TableName:                 aws.String(s.name(leasesTable)),
		KeyConditionExpression:    aws.String("#k = :k"),
		ExpressionAttributeNames:  map[string]string{"#k": leasesTable.partition.name},
		ExpressionAttributeValues: item{":k": &types.AttributeValueMemberS{Value: kind}},
		ConsistentRead:            aws.Bool(true),
	}
	for {
		out, err := s.query(ctx, leasesTable, in)
		if err != nil {
			return nil, fmt.Errorf("leases of kind %s: %w", kind, err)
		}
		for _, i := range out.Items {
			l, err := decodeLease(i)
			if err != nil {
				return nil, err
			}
			all = append(all, l)
		}
		if in.ExclusiveStartKey = out.LastEvaluatedKey; len(out.LastEvaluatedKey) == 0 {
			return all, nil
		}
	}
}

// PutLease implements lease.Leases.
func (s *Store) PutLease(ctx context.Context, was, is lease.Lease) error {
	condition, names, values := standsAs(was)
	var err error
	if is.Counter == 0 {
		_, err = call(ctx, s, "DeleteItem", s.db.DeleteItem, &dynamodb.DeleteItemInput{
			TableName: aws.String(s.name(leasesTable)), Key: leaseKey(is),
			ConditionExpression: condition, ExpressionAttributeNames: names, ExpressionAttributeValues: values,
			ReturnValuesOnConditionCheckFailure: types.ReturnValuesOnConditionCheckFailureAllOld,
		})
	} else {
		_, err = call(ctx, s, "PutItem", s.db.PutItem, &dynamodb.PutItemInput{
			TableName: aws.String(s.name(leasesTable)), Item: leaseItem(is),
			ConditionExpression: condition, ExpressionAttributeNames: names, ExpressionAttributeValues: values,
			ReturnValuesOnConditionCheckFailure: types.ReturnValuesOnConditionCheckFailureAllOld,
		})
	}
	failed := (*types.ConditionalCheckFailedException)(nil)
	switch {
	case err == nil:
		s.metrics.wrote(leasesTable, ItemSize(leaseItem(is)))
		return nil
	case !errors.As(err, &failed):
		return fmt.Errorf("lease %s of kind %s: %w", is.Name, is.Kind, err)
	}
	s.metrics.refused(leasesTable, ItemSize(failed.Item))
	var stands lease.Lease
	if len(failed.Item) > 0 {
		if stands, err = decodeLease(failed.Item); err != nil {
			return err
		}
	}
	if stands == is || stands.Counter+is.Counter == 0 {
		return nil // an earlier attempt has landed, its answer was lost
	}
	return fmt.Errorf("lease %s of kind %s: %w", is.Name, is.Kind, events.ErrConflict)
}

// standsAs returns the condition that a lease stands; one whose counter is 0, that none
// does.
func standsAs(l lease.Lease) (condition *string, names map[string]string, values item) {
	if l.Counter == 0 {
		return aws.String("attribute_not_exists(#k)"), map[string]string{"#k": leasesTable.partition.name}, nil
	}
	i := leaseItem(l)
	return aws.String("#o = :o AND #c = :c AND #p = :p"),
		map[string]string{"#o": ownerAttribute, "#c": counterAttribute, "#p": placeAttribute},
		item{":o": i[ownerAttribute], ":c": i[counterAttribute], ":p": i[placeAttribute]}
}
