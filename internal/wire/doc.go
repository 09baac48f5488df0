// Package wire reads and writes AMQP 0-9-1 frames, methods, field tables and
// message properties, in both directions: what a client sends and what a broker
// answers.
//
//	r := wire.NewReader(conn)
//	frame, err := r.Next()            // *FrameError: what RabbitMQ would close the connection with
//	m, err := wire.ParseMethod(frame.Payload)
//	switch m := m.(type) {
//	case *wire.QueueDeclare:
//		conn.Write(wire.AppendMethod(nil, frame.Channel, &wire.QueueDeclareOk{Queue: m.Queue}))
//	}
//
// It is as strict as RabbitMQ and answers with its codes and texts. Lengths are
// checked against the bytes at hand before anything is allocated, tables nest no
// deeper than [MaxDepth], and bytes left over are an error.
//
// Written is exactly what was asked for. A string that does not fit its field (a
// short string of more than 255 bytes) or a value that no field table can hold is
// a mistake of the caller and panics: nothing is cut off in silence. [ReplyText]
// shortens what a close method says, as RabbitMQ does, and [CheckTable] tells
// beforehand whether a table from outside can be written.
//
// Parsed values share no memory with the bytes they came from, but for
// [Header.Properties].
package wire

//go:generate go run ./gen
