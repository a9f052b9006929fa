"""What was declared, and is it sound. In the process that defines or opens a workflow."""
