"""How sites train one encoder together: site, knowledge, aggregation, distillation, methods."""
