"""Images of an archive, before and after: fetched, compared, and the results stored beside them."""
