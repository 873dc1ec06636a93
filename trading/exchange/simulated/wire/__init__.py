"""The wire face of the paper exchange: Bybit V5 on loopback, REST and sockets, for clients that change nothing.

`server` opens the port and `routes` says which path does what; `auth` and `limits` stand before every request.
`parameters`, `paging` and `formats` are how values come in and go out, `objects` is what Bybit's records look like.
Candles, orders, fills and stream times carry market time; signatures and `market/time` the wall's.

Not modelled, and refused or empty where asked for: other categories than linear, trading in hedge mode, Partial
take profits, liquidation, the limit per IP address, disconnect-cancel-all.
"""
