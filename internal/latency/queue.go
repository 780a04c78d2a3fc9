package latency

// packetQueue is a singly linked queue.
type packetQueue struct {
	first, last *packet
	n           int
}

func (q *packetQueue) push(p *packet) {
	p.next = nil
	if q.last != nil {
		q.last.next = p
	} else {
		q.first = p
	}
	q.last = p
	q.n++
}

func (q *packetQueue) pop() *packet {
	p := q.first
	if q.first = p.next; q.first == nil {
		q.last = nil
	}
	q.n--
	return p
}
