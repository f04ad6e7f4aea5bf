"""What makes a service of the builds: jobs on a Ray cluster, leases between jobs, and the doctor."""
