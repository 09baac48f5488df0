// Package record is a message as one line of JSON, which one command writes and
// another reads: body, properties and headers come out as they went in, each
// header with its AMQP type.
//
//	{"v":1,"exchange":"","routing_key":"q","queue":"q","redelivered":false,
//	 "received_at":"2026-01-02T03:04:05.6Z",
//	 "properties":{"content_type":"text/plain","delivery_mode":2},
//	 "headers":{"n":5,"small":{"$int32":5},"at":{"$time":"2026-01-02T03:04:05Z"}},
//	 "body":"hello"}
//
// (on one line, which is valid UTF-8). A body that is not is body_base64 instead of body.
// queue, redelivered and received_at are there if the message was received.
//
// Headers have JSON's own form where there is one: strings, booleans, null,
// arrays and tables; a number without a point is a 64-bit integer, one with a
// point a 64-bit float. Everything else is an object of one key that begins with
// $ and names the type:
//
//	$int8 $int16 $int32 $uint8 $uint16 $uint32   {"$int32":5}
//	$float32                                     {"$float32":1.5}
//	$float64   NaN, +Inf or -Inf                 {"$float64":"NaN"}
//	$time      RFC 3339, or seconds since 1970   {"$time":"2026-01-02T03:04:05Z"}
//	$bytes     base64                            {"$bytes":"AQI="}
//	$decimal   scale and value                   {"$decimal":[2,1234]}
//	$string    base64, of no valid UTF-8         {"$string":"/w=="}
//	$table     a table that would look like one of these, or whose keys are not
//	           valid UTF-8 ($table64, keys in base64)
//
// $string may stand for the text of any property, exchange or routing key too.
package record
