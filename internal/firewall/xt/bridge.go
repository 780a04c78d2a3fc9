package xt

func bridgeMatch(string) matchFunc { return nil }

func bridgeTarget(string) targetFunc { return nil }
