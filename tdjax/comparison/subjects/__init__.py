"""What is compared: functions, modules, workloads, peers, and the strategies for each."""
