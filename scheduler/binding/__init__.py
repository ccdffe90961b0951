"""The binding cycle: reserve, permit, pre-bind, bind."""
