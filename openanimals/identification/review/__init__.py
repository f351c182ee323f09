"""The review page: a person looks at two photographs, and says same or different."""
