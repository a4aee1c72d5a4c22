"""`tollway bench-answers`: asks questions, has the answers judged blind, and says what that does and does not show."""
