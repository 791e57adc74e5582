"""What makes documents, the chart's files and the bill of materials. Not shipped."""
