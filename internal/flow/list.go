package flow

// list is a doubly linked list, oldest first. What is in it holds its own link, so that nothing is
// allocated.
type list[T any] struct {
	first, last *link[T]
	n           int
}

// link is a place in a list, of the item that holds it.
type link[T any] struct {
	prev, next *link[T]
	item       *T
}

// push appends item, whose link k is.
func (l *list[T]) push(k *link[T], item *T) {
	k.prev, k.next, k.item = l.last, nil, item
	if l.last != nil {
		l.last.next = k
	} else {
		l.first = k
	}
	l.last = k
	l.n++
}

func (l *list[T]) remove(k *link[T]) {
	if k.prev != nil {
		k.prev.next = k.next
	} else {
		l.first = k.next
	}
	if k.next != nil {
		k.next.prev = k.prev
	} else {
		l.last = k.prev
	}
	*k = link[T]{}
	l.n--
}

// oldest returns the first item, nil if there is none.
func (l *list[T]) oldest() *T {
	if l.first == nil {
		return nil
	}
	return l.first.item
}
