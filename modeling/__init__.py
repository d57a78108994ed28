"""The network: configuration, vision encoder, decoder, fusion."""
