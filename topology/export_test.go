package topology

// Explain shows how an error of the driver is explained, without a broker.
func Explain(err error, op string, entity Entity, name string, passive bool) error {
	return explain(err, attempt{op: op, entity: entity, name: name, passive: passive})
}
