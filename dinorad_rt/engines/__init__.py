"""From a graph to a built, proven and cached engine: profile → build → gate → cache."""
