package mqtest

// JournalSteps adds n frames of that size to a journal with a limit: how many older
// records were looked at to make room, and how many records still have their frame.
func JournalSteps(limit, n, size int) (looked, whole int) {
	j := newJournal(limit)
	for range n {
		j.seq++
		looked += j.keepLocked(Record{Seq: j.seq, Kind: FromClient, Frame: make([]byte, size)})
	}
	for _, r := range j.Records() {
		if len(r.Frame) == size {
			whole++
		}
	}
	return looked, whole
}
