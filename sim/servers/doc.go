// Package servers runs what the program needs on many machines, DynamoDB Local and
// RabbitMQ, for tests and soaks. "make servers" installs both.
//
// A test that is content with a server for its whole package calls DynamoDB or
// RabbitMQ, and its TestMain calls Main. One that stops, kills or cuts off a server
// starts its own with StartDynamoDB or StartRabbitMQ; one that only cuts it off takes a
// Way to the shared one. TIMBERLINE_TEST_DYNAMODB (an
// endpoint) and TIMBERLINE_TEST_AMQP (a URL) name servers that run already: the
// package's tests take these instead.
//
//	test ──▶ 127.0.0.1:N ──▶ forwarder ──▶ server
//	         the same over      │          another port each time it is started
//	         restarts           └ Away, Hang, Cut
//
// # Safety
//
// All listens on the loopback, with one exception: DynamoDB Local listens on all
// interfaces and cannot be told not to. On Linux, as root, it gets a network of its
// own, in which nobody but the forwarder reaches it; elsewhere it is open to the
// network for as long as it runs, though it holds test data only.
//
// On Linux servers end with the process that started them, however that ends.
// Elsewhere they outlive one that is killed.
//
// # Licence
//
// DynamoDB Local may be used for development against DynamoDB and not be passed on:
// it is fetched by its users, never kept in a repository or an image.
package servers
