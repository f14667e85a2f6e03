"""Which of several simulators made the data: model choice by a classifier, by ABC and by the evidence."""
