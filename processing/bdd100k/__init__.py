"""BDD100K labels become questions: readers, scene, families, dataset."""
