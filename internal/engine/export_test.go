package engine

// MatchTopics matches a routing key against binding keys: which of them fit, and how
// many nodes of their tree were looked at.
func MatchTopics(patterns []string, key string) (fit map[string]bool, steps int) {
	tree := &topicNode{}
	for _, p := range patterns {
		tree.add(splitKey(p), &binding{key: p})
	}
	fit = map[string]bool{}
	m := topicMatch{words: splitKey(key), round: 1, found: func(b *binding) { fit[b.key] = true }}
	m.at(tree, 0)
	return fit, m.steps
}
