package wire

import "encoding/binary"

// Flag says that a property is present.
type Flag uint16

// The properties of a message, in the order in which they are written.
const (
	FlagContentType Flag = 1 << (15 - iota)
	FlagContentEncoding
	FlagHeaders
	FlagDeliveryMode
	FlagPriority
	FlagCorrelationID
	FlagReplyTo
	FlagExpiration
	FlagMessageID
	FlagTimestamp
	FlagType
	FlagUserID
	FlagAppID
	FlagClusterID
)

// Properties are those of a message. A field counts only if its flag is set: an
// empty message id is not the same as none. [Properties.Mark] sets the flags of
// properties made by hand.
type Properties struct {
	Flags Flag

	ContentType     string
	ContentEncoding string
	Headers         Table
	DeliveryMode    uint8 // 2 is persistent
	Priority        uint8
	CorrelationID   string
	ReplyTo         string
	Expiration      string // milliseconds, in digits
	MessageID       string
	Timestamp       Timestamp
	Type            string
	UserID          string
	AppID           string
	ClusterID       string
}

// Has tells whether all properties in f are present.
func (p *Properties) Has(f Flag) bool { return p.Flags&f == f }

// Mark sets the flags of all fields that are not zero.
func (p *Properties) Mark() {
	mark := func(f Flag, present bool) {
		if present {
			p.Flags |= f
		}
	}
	mark(FlagContentType, p.ContentType != "")
	mark(FlagContentEncoding, p.ContentEncoding != "")
	mark(FlagHeaders, len(p.Headers) > 0)
	mark(FlagDeliveryMode, p.DeliveryMode != 0)
	mark(FlagPriority, p.Priority != 0)
	mark(FlagCorrelationID, p.CorrelationID != "")
	mark(FlagReplyTo, p.ReplyTo != "")
	mark(FlagExpiration, p.Expiration != "")
	mark(FlagMessageID, p.MessageID != "")
	mark(FlagTimestamp, p.Timestamp != 0)
	mark(FlagType, p.Type != "")
	mark(FlagUserID, p.UserID != "")
	mark(FlagAppID, p.AppID != "")
	mark(FlagClusterID, p.ClusterID != "")
}

// ParseProperties reads the flags and the list of a header frame. The error is a
// *[FrameError]: RabbitMQ, which reads them late, closes with 541.
//
// As in RabbitMQ the two lowest flags mean nothing, not even that more flags follow.
func ParseProperties(raw []byte) (Properties, error) {
	d := newDecoder(raw)
	p := Properties{Flags: Flag(d.short()) &^ 3}
	readString := func(f Flag, s *string) {
		if p.Has(f) {
			*s = d.anyShortString()
		}
	}
	readString(FlagContentType, &p.ContentType)
	readString(FlagContentEncoding, &p.ContentEncoding)
	if p.Has(FlagHeaders) {
		p.Headers = d.table(1)
	}
	if p.Has(FlagDeliveryMode) {
		p.DeliveryMode = d.octet()
	}
	if p.Has(FlagPriority) {
		p.Priority = d.octet()
	}
	readString(FlagCorrelationID, &p.CorrelationID)
	readString(FlagReplyTo, &p.ReplyTo)
	readString(FlagExpiration, &p.Expiration)
	readString(FlagMessageID, &p.MessageID)
	if p.Has(FlagTimestamp) {
		p.Timestamp = Timestamp(d.longlong())
	}
	readString(FlagType, &p.Type)
	readString(FlagUserID, &p.UserID)
	readString(FlagAppID, &p.AppID)
	readString(FlagClusterID, &p.ClusterID)
	if !d.complete() || d.fault != nil {
		return Properties{}, &FrameError{Code: 541, Text: "INTERNAL_ERROR"}
	}
	return p, nil
}

// Append appends the flags and the list of what is present, which is what
// [Header.Properties] holds. It panics if a string is longer than 255 bytes or
// [CheckTable] finds fault with the headers.
func (p *Properties) Append(dst []byte) []byte {
	dst = binary.BigEndian.AppendUint16(dst, uint16(p.Flags&^3))
	appendString := func(f Flag, s string) {
		if p.Has(f) {
			dst = appendShortString(dst, s)
		}
	}
	appendString(FlagContentType, p.ContentType)
	appendString(FlagContentEncoding, p.ContentEncoding)
	if p.Has(FlagHeaders) {
		dst = AppendTable(dst, p.Headers)
	}
	if p.Has(FlagDeliveryMode) {
		dst = append(dst, p.DeliveryMode)
	}
	if p.Has(FlagPriority) {
		dst = append(dst, p.Priority)
	}
	appendString(FlagCorrelationID, p.CorrelationID)
	appendString(FlagReplyTo, p.ReplyTo)
	appendString(FlagExpiration, p.Expiration)
	appendString(FlagMessageID, p.MessageID)
	if p.Has(FlagTimestamp) {
		dst = binary.BigEndian.AppendUint64(dst, uint64(p.Timestamp))
	}
	appendString(FlagType, p.Type)
	appendString(FlagUserID, p.UserID)
	appendString(FlagAppID, p.AppID)
	appendString(FlagClusterID, p.ClusterID)
	return dst
}
